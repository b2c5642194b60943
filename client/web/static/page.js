// The page: what is asked, when, and what is said meanwhile. How answers look is in answers.js.

import { clear, show, showTiming, summary } from "./answers.js";

const POLL_MS = 5000; // is the server there?
const POLL_AWAY_MS = 1000;
const HEADINGS = {
  ServerUnavailable: "The server is away.",
  ServerOverloaded: "The server has too much to do.",
  RequestTimeout: "The server did not answer in time.",
  AccessDenied: "The server refuses this page.",
  ModelNotFound: "The server does not have this model.",
  ModelNotReady: "The model is not loaded.",
  InvalidImage: "This file cannot be used.",
  InvalidInput: "This cannot be asked.",
  InferenceFailed: "The model failed.",
  Refused: "This file cannot be used.",
  PageGone: "This page's own process is gone.",
  PageBusy: "This page's own process has too many connections.",
};

const of = (id) => document.getElementById(id);
const state = { photo: null, maxBytes: null, asking: null, waiting: false, ready: null };

// --- the server

async function watchServer() {
  let ready = false;
  let answer = null;
  try {
    answer = await fetch("/api/server");
    const server = await answer.json();
    state.maxBytes = server.max_bytes;
    ready = server.ready;
    const name = server.ready || server.live ? `Triton ${server.version} at ${server.url}` : `The server at ${server.url}`;
    const how = server.ready ? "is ready" : server.live ? "is starting, or lacks a model" : "is away; this page looks for it";
    setServer(ready ? "ready" : "away", `${name} ${how}`);
    if (server.error) of("state").title = server.error.message;
  } catch {
    const gone = "This page's own process is gone: start it again, and this page goes on";
    const busy = "This page's own process has too many connections; this page asks it again";
    setServer("away", answer ? busy : gone);
  }
  state.ready = ready;
  if (ready && state.waiting) ask();
  setTimeout(watchServer, ready ? POLL_MS : POLL_AWAY_MS);
}

function setServer(kind, text) {
  of("server").className = kind;
  if (of("state").textContent !== text) of("state").textContent = text; // else screen readers say it each time
}

// --- asking

const task = () => document.querySelector("input[name=task]:checked").value;

async function ask(classId = null) {
  if (!state.photo) return;
  state.asking?.abort();
  const asking = (state.asking = new AbortController());
  state.waiting = false;
  const began = performance.now();
  of("again").hidden = true;
  clear();
  say("Asking …");
  of("answer").setAttribute("aria-busy", "true");
  try {
    const found = await answerTo(task(), classId, asking.signal);
    if (asking.signal.aborted) return;
    await show(found, explain);
    say(summary(found));
    showTiming(found.timing, performance.now() - began);
  } catch (error) {
    if (asking.signal.aborted) return;
    fail(error.told ?? { type: "Broken", message: String(error), wait: false });
  } finally {
    if (!asking.signal.aborted) {
      of("answer").removeAttribute("aria-busy");
      seeAnswer();
    }
  }
}

async function answerTo(name, classId, signal) {
  const query = classId === null ? "" : `?class=${classId}`;
  const tooLarge = state.maxBytes && state.photo.size > state.maxBytes;
  if (tooLarge) throw told("Refused", `It has ${mebibytes(state.photo.size)} MiB; the limit is ${mebibytes(state.maxBytes)}.`);
  let response;
  try {
    response = await fetch(`/api/${name}${query}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: state.photo,
      signal,
    });
  } catch (error) {
    throw told("PageGone", "Start it again with the command web, then try again.", true);
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body) return body;
  if (body?.error) throw { told: body.error };
  if (response.status === 503) throw told("PageBusy", "Close other windows of it, or wait until others do.", true);
  throw told("Broken", `It answered ${response.status}.`);
}

const told = (type, message, wait = false) => ({ told: { type, message, wait } });
const mebibytes = (bytes) => (bytes / 2 ** 20).toFixed(0);

function fail({ type, message, wait }) {
  state.waiting = wait;
  const heading = document.createElement("strong");
  heading.textContent = HEADINGS[type] ?? "Something went wrong.";
  const end = wait ? " Once the server is ready, this page asks again by itself." : "";
  say(heading, `${message[0].toUpperCase()}${message.slice(1)}${end}`);
  of("said").className = "error";
  of("again").hidden = type === "InvalidImage" || type === "Refused";
}

function say(...parts) {
  of("said").className = "";
  of("said").replaceChildren(...parts);
}

/** On a phone the answer is below what can be seen. */
function seeAnswer() {
  if (of("said").getBoundingClientRect().bottom > innerHeight / 2) of("answer-title").scrollIntoView();
}

function explain(index) {
  choose("explanation");
  ask(index);
}

function choose(name) {
  document.querySelector(`input[name=task][value=${name}]`).checked = true;
}

// --- photographs

function take(photo) {
  URL.revokeObjectURL(of("photo").src);
  state.photo = photo;
  of("no-preview").hidden = true;
  of("photo").src = URL.createObjectURL(photo);
  of("picture").hidden = false;
  ask();
}

function takeFrom(files) {
  const file = [...(files ?? [])].find((one) => one.size !== undefined);
  if (file) take(file);
}

of("photo").addEventListener("error", () => {
  of("picture").hidden = true;
  of("no-preview").hidden = false;
});
of("file").addEventListener("change", (event) => {
  takeFrom(event.target.files);
  event.target.value = ""; // the same file again is a choice, too
});
of("tasks").addEventListener("change", () => ask());
of("again").addEventListener("click", () => ask());
of("slider").addEventListener("input", (event) => (of("layers").style.opacity = event.target.value / 100));
of("examples").addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  choose(button.dataset.task);
  try {
    take(await (await fetch(`/static/examples/${button.dataset.file}`)).blob());
  } catch {
    fail(told("PageGone", "Start it again with the command web, then try again.").told);
  }
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  of("drop").classList.add("over");
});
document.addEventListener("dragleave", () => of("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  of("drop").classList.remove("over");
  takeFrom(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => takeFrom(event.clipboardData?.files));

// --- the camera

let stream = null;

of("camera").hidden = !navigator.mediaDevices; // browsers lend it to localhost and https only
of("camera").addEventListener("click", async () => {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    const why = error.name === "NotAllowedError" ? "It is not allowed to this page." : "None was found, or it is in use.";
    return fail({ type: "Camera", message: `The camera cannot be used. ${why}`, wait: false });
  }
  of("video").srcObject = stream;
  showCamera(true);
  of("shoot").focus();
});
of("stop").addEventListener("click", stopCamera);
of("shoot").addEventListener("click", () => {
  const { videoWidth: width, videoHeight: height } = of("video");
  if (!width) return; // it shows nothing yet
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage(of("video"), 0, 0);
  stopCamera();
  canvas.toBlob(take, "image/jpeg", 0.92);
});

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = of("video").srcObject = null;
  showCamera(false);
  of("camera").focus();
}

function showCamera(shown) {
  of("viewfinder").hidden = !shown;
  of("camera").hidden = shown;
}

watchServer();

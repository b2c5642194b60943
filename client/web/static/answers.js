// How answers look: bars, boxes, layers over the photograph, and where the time went.

const OTHER = "other"; // what recognize_scene calls the share of everything that is no place
const [LEAST_MARK, MARK] = [2, 7]; // pixels of a landmark,
const MARK_SHARE = 0.06; // of a face's width in between
const NUMBER_HEIGHT = 22; // pixels
const LETTER_WIDTH = 14; // pixels that a character of a line needs at least, so that it can be read below its columns

const of = (id) => document.getElementById(id);
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const milliseconds = (value) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;

function made(tag, { style = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  Object.assign(element.style, style);
  element.append(...children);
  return element;
}

export function clear() {
  for (const id of ["layers", "letters", "answer", "facts", "timing"]) of(id).replaceChildren();
  of("opacity").hidden = true;
  of("picture").className = "";
  of("picture").style.width = "";
  of("scroller").removeAttribute("tabindex");
}

/** One sentence, which screen readers say. */
export function summary(found) {
  switch (found.task) {
    case "faces":
      return found.faces.length === 0 ? "No face was found." : found.faces.length === 1 ? "One face was found." : `${found.faces.length} faces were found.`;
    case "located":
      return found.objects.length === 0 ? "Nothing that it knows was found." : `Found: ${counted(found.objects)}.`;
    case "text":
      return found.text ? `It says “${found.text}”.` : "Nothing is written there.";
    case "explanation":
      return `The yellow places are the best evidence for “${found.label}” (${percent.format(found.probability)}).`;
    case "scene":
      if (found.classes[0].label === OTHER) return `Most likely none of the places that it knows (${percent.format(found.classes[0].probability)}).`;
    // else as objects
    default:
      return `Most likely: ${found.classes[0].label} (${percent.format(found.classes[0].probability)}).`;
  }
}

/** "2 × person, dog", in the order of the best of each. */
function counted(objects) {
  const counts = new Map();
  for (const { label } of objects) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts].map(([label, count]) => (count === 1 ? label : `${count} × ${label}`)).join(", ");
}

/** explain: called with the number of a class, when somebody asks why. */
export async function show(found, explain) {
  await of("photo").decode().catch(() => {}); // what cannot be shown is answered all the same
  if (found.task === "faces") showFrames(found.faces.map((face, place) => ({ ...face, name: `Face ${place + 1}` })));
  else if (found.task === "located") showFrames(found.objects.map((one, place) => ({ ...one, name: `${place + 1}, ${one.label}`, landmarks: [] })));
  else if (found.task === "text") showText(found);
  else if (found.task === "explanation") await showExplanation(found);
  else showClasses(found, explain);
  const facts = { Model: found.model, Version: found.version, Weights: found.weights ?? "not told" };
  for (const [name, value] of Object.entries(facts)) of("facts").append(made("dt", {}, name), made("dd", {}, value));
  if (found.has_random_weights) {
    of("facts").append(made("dd", { className: "warning" }, "Random weights: an untrained network, its answers mean nothing."));
  }
}

function showClasses({ task, classes }, explain) {
  const rows = classes.map(({ label, index, probability }) => {
    const row = bar(label, probability, percent.format(probability));
    if (task === "objects") {
      const why = made("button", { type: "button", onclick: () => explain(index) }, "Why?");
      why.setAttribute("aria-label", `Why? The evidence for ${label}`);
      row.firstChild.append(why);
    }
    return row;
  });
  of("answer").append(made("ul", { className: "rows" }, ...rows));
}

function bar(name, share, text) {
  const track = made("span", { className: "track" }, made("i", { style: { width: `${100 * Math.min(1, share)}%` } }));
  track.setAttribute("aria-hidden", "true");
  return made("li", {}, made("span", {}, name), made("span", { className: "share" }, text), track);
}

/** A frame with a number for each, and a row that says what it is. */
function showFrames(shown) {
  const { naturalWidth: width, naturalHeight: height } = of("photo");
  fitLayers();
  of("layers").style.opacity = 1;
  shown.forEach(({ box: [left, top, right, bottom], landmarks }, place) => {
    if (!width) return; // nothing is shown to draw on
    const seen = [left / width, top / height, right / width, bottom / height].map((share) => Math.min(1, Math.max(0, share)));
    const room = seen[1] * of("layers").clientHeight; // above the frame, for its number
    const frame = box(seen, { className: room < NUMBER_HEIGHT ? "face low" : "face" });
    frame.append(made("b", {}, `${place + 1}`));
    const wide = ((right - left) * of("layers").clientWidth) / width; // pixels that it is here
    const size = `${Math.min(MARK, Math.max(LEAST_MARK, wide * MARK_SHARE))}px`;
    const marks = landmarks.map(([x, y]) =>
      made("span", { className: "mark", style: { left: `${(100 * x) / width}%`, top: `${(100 * y) / height}%`, width: size, height: size } }),
    );
    of("layers").append(frame, ...marks);
  });
  const rows = shown.map(({ name, box: [left, top, right, bottom], score }) => {
    const size = `${Math.round(right - left)} × ${Math.round(bottom - top)} pixels`;
    return bar(`${name}: ${size} at ${Math.round(left)}, ${Math.round(top)}`, score, percent.format(score));
  });
  of("answer").append(made("ul", { className: "rows" }, ...rows));
}

function showText({ text, confidence, characters }) {
  of("picture").className = "line";
  of("picture").style.width = `max(100%, ${LETTER_WIDTH * characters.length}px)`;
  of("scroller").tabIndex = 0; // a long line is scrolled by keys, too
  fitLayers();
  showOpacity();
  for (const { text: character, box: place, colour } of characters) {
    of("layers").append(box(place, { className: "column" }, { background: colour }));
    of("letters").append(made("span", { style: { left: `${50 * (place[0] + place[2])}%` } }, character));
  }
  const rows = [...characters]
    .filter((one) => one.text.trim())
    .sort((a, b) => a.confidence - b.confidence)
    .slice(0, 3)
    .map((one) => bar(`“${one.text}”, among the least sure`, one.confidence, percent.format(one.confidence)));
  const whole = bar("All of it, per character", confidence, percent.format(confidence));
  of("answer").append(made("p", { className: "read" }, text), made("ul", { className: "rows" }, whole, ...rows));
}

async function showExplanation({ label, probability, crop, layer }) {
  const bytes = Uint8Array.from(atob(layer), (character) => character.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  const heat = made("img", { src: url, alt: "" });
  await heat.decode();
  URL.revokeObjectURL(url);
  fitLayers();
  showOpacity();
  of("layers").append(box(crop, { className: "seen" }));
  of("layers").lastChild.append(heat);
  of("answer").append(
    made("ul", { className: "rows" }, bar(label, probability, percent.format(probability))),
    made("p", {}, "Yellow is the strongest place, purple a weak one; what is dark at the edges the model did not see."),
  );
}

function box([left, top, right, bottom], properties, style = {}) {
  const share = (value) => `${100 * value}%`;
  const place = { left: share(left), top: share(top), width: share(right - left), height: share(bottom - top) };
  return made("div", { ...properties, style: { ...place, ...style } });
}

/** The layers lie over the photograph, not over what is below it. */
function fitLayers() {
  of("layers").style.aspectRatio = `${of("photo").naturalWidth} / ${of("photo").naturalHeight}`;
}

function showOpacity() {
  of("opacity").hidden = false;
  of("layers").style.opacity = of("slider").value / 100;
}

/** total: milliseconds in this browser, from asking to having drawn. */
export function showTiming({ client_ms: client, server }, total) {
  const parts = [["This browser, and to this page's process and back", total - client]];
  if (server) {
    const rest = Math.max(0, server.total_ms - server.queue_ms - server.compute_ms);
    parts.push(["Client: preparing, sending, receiving", Math.max(0, client - server.total_ms)]);
    parts.push(["Server: waiting in the queue", server.queue_ms], ["Server: computing", server.compute_ms]);
    if (rest >= 1) parts.push(["Server: everything else", rest]);
  } else parts.push(["Client and server", client]);
  const rows = parts.map(([name, value]) => bar(name, value / total, milliseconds(value)));
  of("timing").append(made("h3", {}, `It took ${milliseconds(total)}`), made("ul", { className: "rows" }, ...rows));
  if (server?.requests > 1) {
    const said = `The server's times are averages of the ${server.requests} requests that it answered meanwhile.`;
    of("timing").append(made("p", {}, said));
  } else if (!server) of("timing").append(made("p", {}, "The server does not tell how it spent its part."));
}

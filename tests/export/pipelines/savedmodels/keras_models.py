"""Makes SavedModels and Keras files, run in the environment with TensorFlow: DIGITS.csv.gz FOLDER.

Trained on scikit-learn's digits: 1,797 real ones, 8 x 8 grey values of 0 to 16, read row by row by the GRUs.
Beside each is what TensorFlow answers to the digits that were not trained on. Others are hostile.
"""

import os
import sys

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

SHOWN = 32


def digits(path: str) -> tuple[np.ndarray, np.ndarray]:
    table = np.loadtxt(path, delimiter=",").astype(np.float32)
    return table[:, :-1].reshape(-1, 8, 8) / 16, table[:, -1].astype(np.int64)


def networks() -> dict[str, keras.Model]:
    def rows(time: int | None = 8) -> keras.KerasTensor:
        return keras.Input((time, 8), name="rows")

    def classes(value: keras.KerasTensor) -> keras.KerasTensor:
        return layers.Dense(10, activation="softmax", name="digit")(value)

    image = keras.Input((8, 8, 1), name="image")
    value = layers.Conv2D(16, 3, activation="relu")(image)
    value = layers.BatchNormalization()(layers.MaxPooling2D()(value))
    found = {"cnn": keras.Model(image, classes(layers.Flatten()(value)))}
    start = rows(None)
    found["gru_after"] = keras.Model(start, classes(layers.GRU(24)(start)))
    start = rows()
    found["gru_before"] = keras.Model(start, classes(layers.GRU(24, reset_after=False)(start)))
    start = rows(None)
    value = layers.Masking()(start)
    value = layers.Bidirectional(layers.GRU(12, return_sequences=True))(value)
    found["gru_deep"] = keras.Model(start, classes(layers.GRU(16, go_backwards=True)(value)))
    start = rows(None)
    value = layers.LSTM(16)(layers.Masking()(start))
    found["lstm_masked"] = keras.Model(start, classes(value))
    return found


def train(path: str, folder: str) -> None:
    values, labels = digits(path)
    for name, network in networks().items():
        keras.utils.set_random_seed(7)
        inputs = values[..., None] if name == "cnn" else values
        network.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        network.fit(inputs[:1500], labels[:1500], 64, epochs=4, verbose=0)
        answers = network(inputs[1500 : 1500 + SHOWN]).numpy()
        np.savez(
            f"{folder}/{name}.npz",
            inputs=inputs[1500 : 1500 + SHOWN],
            answers=answers,
            labels=labels[1500 : 1500 + SHOWN],
        )
        if name == "cnn":
            network.save(f"{folder}/{name}.keras")
        else:
            network.export(f"{folder}/{name}", format="tf_saved_model", verbose=False)


class Scaled(tf.Module):
    def __init__(self) -> None:
        self.weights = tf.Variable(tf.random.normal([4, 3], seed=1))


def others(folder: str) -> None:
    module = Scaled()
    of_four = [tf.TensorSpec([None, 4], tf.float32, name="a")]

    @tf.function(input_signature=of_four)
    def scores(a):
        return {"scores": a @ module.weights, "sum": tf.reduce_sum(a, -1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def examples(examples):
        parsed = tf.io.parse_example(examples, {"a": tf.io.FixedLenFeature([4], tf.float32)})
        return {"scores": parsed["a"] @ module.weights}

    @tf.function(input_signature=[*of_four, tf.TensorSpec([None, 2], tf.float32, name="unused")])
    def unused(a, unused):
        return {"scores": a @ module.weights}

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4], tf.float32, name="a")])
    def svd(a):
        return {"values": tf.linalg.svd(a)[0]}

    @tf.function(input_signature=of_four)
    def python(a):
        return {"twice": tf.py_function(lambda value: value * 2, [a], tf.float32)}

    @tf.function(input_signature=of_four)
    def noise(a):
        return {"noisy": a + tf.random.normal(tf.shape(a))}

    of_integers = [tf.TensorSpec([None, 4], tf.int32, name="n")]

    @tf.function(input_signature=of_integers)
    def floored(n):
        return {"floored": n // 3}

    @tf.function(input_signature=of_integers)
    def hot(n):
        return {"hot": tf.one_hot(n, 5)}

    @tf.function(input_signature=of_integers)
    def summed(n):
        return {"summed": n + tf.reduce_sum(n, -1, keepdims=True)}

    @tf.function(input_signature=of_integers)
    def rows(n):
        return {"rows": tf.gather(tf.range(300.0), n)}

    saved = {"two": {"serving_default": scores, "examples": examples}, "unused": {"serving_default": unused}}
    saved |= {"svd": {"serving_default": svd}, "python": {"serving_default": python}}
    saved |= {"noise": {"serving_default": noise}, "none": None}
    saved |= {"floored": {"serving_default": floored}, "hot": {"serving_default": hot}}
    saved |= {"summed": {"serving_default": summed}, "rows": {"serving_default": rows}}
    for name, signatures in saved.items():
        tf.saved_model.save(module, f"{folder}/{name}", signatures=signatures)
    start = keras.Input((4,), name="my-input")
    value = layers.Dense(3, activation="gelu")(start)
    keras.Model(start, value).export(f"{folder}/hyphen", format="tf_saved_model", verbose=False)
    start = keras.Input((8, 8, 4), name="my.input")
    value = layers.Conv2D(8, 3, groups=2)(start)
    keras.Model(start, value).export(f"{folder}/grouped", format="tf_saved_model", verbose=False)
    start = keras.Input((4,), name="a")
    keras.Model(start, layers.Lambda(lambda value: value * 2)(start)).save(f"{folder}/lambda.keras")
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], "x")
        weights = tf.compat.v1.get_variable("w", [4, 3])
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, f"{folder}/tf1", {"x": x}, {"y": x @ weights})


if __name__ == "__main__":
    train(*sys.argv[1:3])
    others(sys.argv[2])

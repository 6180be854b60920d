#!/usr/bin/env python3
"""all-MiniLM-L6-v2 in onnxruntime (f32), the peer that the encoder is measured beside.

The ONNX graph is written here from the safetensors file, with the fused operators that onnxruntime itself uses for
BERT (Attention, SkipLayerNormalization, BiasGelu), so that the peer runs at its best. Needs: onnxruntime, onnx, numpy,
tokenizers.

Speaks line by line, so that a driver can take turns between engines on a machine that does other work:
  stdin   {"texts": [...], "repeat": n, "tokens": 256, "vectors": false}
  stdout  {"seconds": [...], "vectors": [[...]]}      seconds of each repeat, tokenization included
"""
import argparse
import json
import struct
import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

TYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64}


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    tensors = {}
    for name, info in header.items():
        if name != "__metadata__":
            start, end = info["data_offsets"]
            tensors[name] = np.frombuffer(data[start:end], TYPES[info["dtype"]]).reshape(info["shape"])
    return tensors


def build(folder):
    """The graph: ids and mask [batch, length] in, unit vectors [batch, hidden] out."""
    config = json.load(open(f"{folder}/config.json"))
    weights = read_safetensors(f"{folder}/model.safetensors")
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    eps = config["layer_norm_eps"]
    nodes, constants = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(op, inputs, output, domain="", **attributes):
        nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def weight(name, transpose=False):
        array = weights[name].astype(np.float32)
        return constant(name, array.T if transpose else array)

    def skip_norm(x, skip, name, output, bias):
        scale, shift = weight(f"{name}.weight"), weight(f"{name}.bias")
        inputs = [x, skip, scale, shift, bias]
        return node("SkipLayerNormalization", inputs, output, "com.microsoft", epsilon=eps)

    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    constant("positions", positions.astype(np.float32))
    shape = node("Shape", ["ids"], "shape")
    length = node("Gather", [shape, constant("one", np.array([1], np.int64))], "length", axis=0)
    zero = constant("zero", np.array([0], np.int64))
    used = node("Slice", ["positions", zero, length, zero], "used")
    words = node("Gather", [weight("embeddings.word_embeddings.weight"), "ids"], "words")
    summed = node("Add", [words, used], "summed")
    norm = "embeddings.LayerNorm"
    x = node(
        "LayerNormalization", [summed, weight(f"{norm}.weight"), weight(f"{norm}.bias")], "embedded", axis=-1, epsilon=eps
    )
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        parts = [f"{layer}.attention.self.{p}" for p in ("query", "key", "value")]
        qkv = constant(f"{layer}.qkv", np.concatenate([weights[f"{p}.weight"].T for p in parts], 1))
        qkv_bias = constant(f"{layer}.qkv_bias", np.concatenate([weights[f"{p}.bias"] for p in parts]))
        mixed = node("Attention", [x, qkv, qkv_bias, "mask"], f"{layer}.mixed", "com.microsoft", num_heads=heads)
        out = f"{layer}.attention.output"
        projected = node("MatMul", [mixed, weight(f"{out}.dense.weight", True)], f"{layer}.projected")
        x = skip_norm(projected, x, f"{out}.LayerNorm", f"{layer}.attended", weight(f"{out}.dense.bias"))
        wide = node("MatMul", [x, weight(f"{layer}.intermediate.dense.weight", True)], f"{layer}.wide")
        active = node(
            "BiasGelu", [wide, weight(f"{layer}.intermediate.dense.bias")], f"{layer}.active", "com.microsoft"
        )
        narrow = node("MatMul", [active, weight(f"{layer}.output.dense.weight", True)], f"{layer}.narrow")
        x = skip_norm(narrow, x, f"{layer}.output.LayerNorm", f"{layer}.out", weight(f"{layer}.output.dense.bias"))
    mask = node("Cast", ["mask"], "mask.float", to=TensorProto.FLOAT)
    column = node("Unsqueeze", [mask, constant("two", np.array([2], np.int64))], "mask.column")
    masked = node("Mul", [x, column], "masked")
    total = node("ReduceSum", [masked, constant("axis", np.array([1], np.int64))], "total", keepdims=0)
    node("LpNormalization", [total], "vectors", axis=1, p=2)
    graph = helper.make_graph(
        nodes,
        "encoder",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"]),
            helper.make_tensor_value_info("mask", TensorProto.INT32, ["batch", "length"]),
        ],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", hidden])],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--model", required=True, help="folder with config.json, tokenizer.json, model.safetensors")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--batch", type=int, default=32, help="texts of one run; sorted by length, padded within")
    options = arguments.parse_args()

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    model = build(options.model).SerializeToString()
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(f"{options.model}/tokenizer.json")

    def encode(texts):
        tokenizer.no_padding()
        rows = [e.ids for e in tokenizer.encode_batch(texts)]
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        vectors = [None] * len(rows)
        for start in range(0, len(order), options.batch):
            part = order[start : start + options.batch]
            width = len(rows[part[0]])
            ids = np.zeros((len(part), width), np.int64)
            mask = np.zeros((len(part), width), np.int32)
            for row, i in enumerate(part):
                ids[row, : len(rows[i])] = rows[i]
                mask[row, : len(rows[i])] = 1
            (result,) = session.run(["vectors"], {"ids": ids, "mask": mask})
            for row, i in enumerate(part):
                vectors[i] = result[row]
        return vectors

    versions = {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__, "threads": options.threads}
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        tokenizer.enable_truncation(request.get("tokens", 256))
        seconds = []
        for _ in range(request.get("repeat", 1)):
            start = time.perf_counter()
            vectors = encode(request["texts"])
            seconds.append(time.perf_counter() - start)
        reply = {"seconds": seconds}
        if request.get("vectors"):
            reply["vectors"] = [v.tolist() for v in vectors]
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()

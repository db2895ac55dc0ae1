"""
Writes src/weights/block-values.json: random blocks of each GGML type, and their values by the PyPI package gguf.
    pip install gguf==0.19.0 && python make_block_values.py > ../src/weights/block-values.json
"""
import base64
import json

import gguf
import numpy
from gguf import GGMLQuantizationType, quants

# Offsets of the float16 scales of each type.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0], "MXFP4": [], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
    "Q5_K": [0, 2], "Q6_K": [208], "IQ4_XS": [0], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "IQ1_M": [],
    "TQ1_0": [52], "TQ2_0": [64],
}

random = numpy.random.default_rng(7)
result = {}
for name, offsets in HALVES.items():
    kind = GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    count = 512 // elements
    blocks = random.integers(0, 256, (count, size), dtype=numpy.uint8)
    halves = lambda: random.normal(0, 0.02, count).astype(numpy.float16)
    for at in offsets:
        blocks[:, at : at + 2] = halves().reshape(count, 1).view(numpy.uint8)
    if name == "MXFP4":
        blocks[:, 0] = random.integers(110, 130, count)
    if name == "IQ1_M":  # the scale's four parts lie in the high bits of four words
        bits = halves().view(numpy.uint16)
        words = blocks[:, 48:56].copy().view(numpy.uint16)
        for i in range(4):
            words[:, i] = (words[:, i] & 0x0FFF) | (((bits >> (4 * i)) & 15) << 12)
        blocks[:, 48:56] = words.view(numpy.uint8)
    values = quants.dequantize(blocks.reshape(-1), kind).astype(numpy.float32)
    result[name] = {"bytes": base64.b64encode(blocks.tobytes()).decode(), "values": base64.b64encode(values.tobytes()).decode()}
print(json.dumps(result, indent=1))

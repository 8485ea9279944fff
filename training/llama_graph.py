"""A Llama as an ONNX graph, built node by node.

A graph exported by torch splits attention into basic operators, and returns a longer copy of its cache at
each step. ONNX Runtime's own operators update the cache in one buffer, and read weights of 4 or 8 bits
directly. These operations dominate the cost of a token, so the graph is built from such operators:
GroupQueryAttention with rotary positions inside, norms that add the residual, MatMulNBits. They belong to
ONNX Runtime (domain com.microsoft), so the ONNX checker does not know them.

Variants: fp32; int8, with all matrices in 8 bits; int4, with the embedding in 8 bits and all other matrices
in 4, shifted by block sums (`training.block_quantization`).

Inputs and outputs of the graph:
    tokens [N, T]        int64, new tokens
    read [N]             int64, number of tokens in each row of the cache
    places [N, P]        int64, positions among the T tokens whose logits are wanted
    keys_i, values_i     float32 [N, G, S, K], cache of layer i, with a capacity of S tokens per row
    logits [N, P, V]     float32
    next_keys_i, next_values_i    the cache with the T tokens; the same memory if the caller binds them so

If the cache is empty (`read` is 0), several rows of several tokens can be read at once; otherwise only one
row of several tokens, or several rows of one token: the operator supports no more.

Shape legend: N texts, T tokens, P wanted positions, S capacity of the cache, G heads of keys and values,
K width of a head, D width, F hidden width, V vocabulary.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.block_quantization import BLOCK, Quantized, block_sums, quantize, quantize_shifted
from zoo.models.llama import LlamaConfig, angles
from zoo.version import Variant

VARIANTS: tuple[Variant, ...] = get_args(Variant)

OPSET = 23  # the first opset with RMSNormalization
MICROSOFT = "com.microsoft"
HEAD_MULTIPLE = 16
INT8_ARITHMETIC = 4  # accuracy level of MatMulNBits: inputs are also rounded to 8 bits, block by block

Weights = Mapping[str, NDArray[np.float32]]


def build(config: LlamaConfig, weights: Weights, variant: Variant, context: int) -> bytes:
    """Returns the graph for the weights of a state dict, for texts of at most `context` tokens.

    Raises `ValueError` if a head's width is not a multiple of 16, or if a quantised variant's widths are not
    multiples of 32.
    """
    if config.head_width % HEAD_MULTIPLE:
        raise ValueError(
            f"heads of {config.head_width} numbers: ONNX Runtime's attention takes multiples of "
            f"{HEAD_MULTIPLE}; choose a width that is a multiple of {HEAD_MULTIPLE * config.heads}"
        )
    return _LlamaGraph(config, weights, variant).build(context)


def rebuild(graph: bytes, variant: Variant) -> bytes:
    """Returns another variant of a graph that `build` made in fp32."""
    model = onnx.load_from_string(graph)
    made_of = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    config = LlamaConfig(**made_of["config"])
    arrays = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    weights = {"embedding.weight": arrays["embedding"]}
    heads, shared = config.heads * config.head_width, config.key_value_heads * config.head_width
    for name, array in arrays.items():
        if name.endswith(".scale"):
            weights[f"{name.removesuffix('.scale')}.weight"] = array
        elif name.startswith("blocks."):
            names = name.split("+")
            ends = [] if len(names) == 1 else [heads, heads + shared]
            for own, part in zip(names, np.split(array.T, ends), strict=True):
                weights[f"{own}.weight"] = np.ascontiguousarray(part)
    return build(config, weights, variant, made_of["context"])


class _LlamaGraph:
    """Builder that collects the nodes and constants of the graph."""

    def __init__(self, config: LlamaConfig, weights: Weights, variant: Variant) -> None:
        self.config, self.weights, self.variant = config, weights, variant
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.summed: dict[str, str] = {}  # names of inputs concatenated with their block sums

    @cached_property
    def embedding(self) -> Quantized:
        """Embedding in 8 bits, also in the int4 variant: 4 bits would raise perplexity by a tenth."""
        return quantize(self.weights["embedding.weight"], 8)

    def build(self, context: int) -> bytes:
        turned = angles(context, self.config.head_width, self.config.rotary_base).numpy()
        self.constant("cosine", np.cos(turned))
        self.constant("sine", np.sin(turned))
        self.lengths()
        residual = self.embedded()
        (normed,) = self.add(
            "RMSNormalization", [residual, self.scale("blocks.0.attention_norm")], epsilon=self.config.epsilon
        )
        for number in range(self.config.layers):
            block, last = f"blocks.{number}", number + 1 == self.config.layers
            mixed = self.attention(number, normed)
            if last:
                # Only the wanted positions are computed further.
                mixed, residual = self.chosen(mixed), self.chosen(residual)
            added = self.linear(mixed, [f"{block}.attention.output"])
            normed, residual = self.norm(added, residual, f"{block}.feed_forward_norm")
            added = self.feed_forward(block, normed)
            following = "norm" if last else f"blocks.{number + 1}.attention_norm"
            normed, residual = self.norm(added, residual, following)
        self.unembedded(normed)
        graph: bytes = self.model(context).SerializeToString()
        return graph

    # Parts of the network

    def lengths(self) -> None:
        """Adds the lengths, new tokens included, in the form that GroupQueryAttention needs."""
        self.constant("one", np.array([1], np.int64))
        (shape,) = self.add("Shape", ["tokens"], start=1, end=2)
        (total,) = self.add("Add", ["read", shape])
        (before,) = self.add("Sub", [total, "one"])
        (longest,) = self.add("ReduceMax", [total], keepdims=1)
        self.add("Cast", [before], ["last_place"], to=TensorProto.INT32)
        self.add("Cast", [longest], ["total"], to=TensorProto.INT32)
        self.constant("last_axis", np.array([-1], np.int64))
        self.add("Unsqueeze", ["places", "last_axis"], ["place_index"])  # [N, P, 1]

    def embedded(self) -> str:
        if self.variant == "fp32":
            self.constant("embedding", self.weights["embedding.weight"])
            return self.add("Gather", ["embedding", "tokens"], axis=0)[0]
        numbers, scales, zeros = self.quantized("embedding", self.embedding)
        return self.add(
            "GatherBlockQuantized",
            [numbers, "tokens", scales, zeros],
            domain=MICROSOFT,
            bits=self.embedding.bits,
            block_size=BLOCK,
            gather_axis=0,
            quantize_axis=1,
        )[0]

    def unembedded(self, x: str) -> None:
        """Adds the logits; a quantized embedding is shared with the input, reshaped to blocks."""
        if self.variant == "fp32":
            self.add("FusedMatMul", [x, "embedding"], ["logits"], domain=MICROSOFT, transB=1)
            return
        rows, blocks = self.embedding.scales.shape
        self.constant("embedding.shape", np.array([rows, blocks, -1]))
        (numbers,) = self.add("Reshape", ["embedding.numbers", "embedding.shape"])
        inputs = [x, numbers, "embedding.scales", "embedding.zeros"]
        self.product(inputs, self.embedding, ["logits"])

    def attention(self, number: int, x: str) -> str:
        config, prefix = self.config, f"blocks.{number}.attention"
        packed = self.linear(x, [f"{prefix}.query", f"{prefix}.key", f"{prefix}.value"])
        return self.add(
            "GroupQueryAttention",
            [packed, "", "", f"keys_{number}", f"values_{number}", "last_place", "total", "cosine", "sine"],
            [f"mixed_{number}", f"next_keys_{number}", f"next_values_{number}"],
            domain=MICROSOFT,
            num_heads=config.heads,
            kv_num_heads=config.key_value_heads,
            do_rotary=1,
            local_window_size=config.window or -1,
        )[0]

    def feed_forward(self, block: str, x: str) -> str:
        prefix = f"{block}.feed_forward"
        gate = self.linear(x, [f"{prefix}.gate"])
        up = self.linear(x, [f"{prefix}.up"])
        (opened,) = self.add("QuickGelu", [gate], domain=MICROSOFT, alpha=1.0)
        (hidden,) = self.add("Mul", [opened, up])
        return self.linear(hidden, [f"{prefix}.down"])

    def norm(self, x: str, residual: str, name: str) -> tuple[str, str]:
        """Adds x and the residual; returns the norm of the sum, and the sum."""
        normed, _, _, total = self.add(
            "SkipSimplifiedLayerNormalization",
            [x, residual, self.scale(name)],
            [f"{name}.normed", "", "", f"{name}.sum"],
            domain=MICROSOFT,
            epsilon=self.config.epsilon,
        )
        return normed, total

    def chosen(self, x: str) -> str:
        """Selects the wanted positions: [N, T, D] -> [N, P, D]."""
        return self.add("GatherND", [x, "place_index"], batch_dims=1)[0]

    def linear(self, x: str, names: list[str]) -> str:
        """Adds affine layers with the same input as one layer."""
        weight = np.concatenate([self.weights[f"{name}.weight"] for name in names])
        name = "+".join(names)
        if self.variant == "fp32":
            return self.add("MatMul", [x, self.constant(name, weight.T)])[0]
        if self.variant == "int8":
            made = quantize(weight, 8)
        else:
            made, x = quantize_shifted(weight, 4), self.with_sums(x, weight.shape[1])
        return self.product([x, *self.quantized(name, made, in_blocks=True)], made)

    def with_sums(self, x: str, width: int) -> str:
        """Concatenates inputs with their block sums."""
        if x not in self.summed:
            table = f"sums_{width}"
            if all(table != constant.name for constant in self.constants):
                self.constant(table, block_sums(width))
            (sums,) = self.add("MatMul", [x, table])
            (self.summed[x],) = self.add("Concat", [x, sums], axis=-1)
        return self.summed[x]

    # Nodes and constants

    def quantized(self, name: str, made: Quantized, *, in_blocks: bool = False) -> tuple[str, str, str]:
        """Adds a weight's constants: integers [N, D * bits / 8] or [N, B, 4 * bits], scales and zeros."""
        numbers = made.numbers.reshape(*made.scales.shape, -1) if in_blocks else made.numbers
        return (
            self.constant(f"{name}.numbers", numbers),
            self.constant(f"{name}.scales", made.scales),
            self.constant(f"{name}.zeros", made.zeros),
        )

    def product(self, inputs: list[str], made: Quantized, outputs: list[str] | None = None) -> str:
        rows, blocks = made.scales.shape
        return self.add(
            "MatMulNBits",
            inputs,
            outputs,
            domain=MICROSOFT,
            N=rows,
            K=blocks * BLOCK,
            bits=made.bits,
            block_size=BLOCK,
            accuracy_level=INT8_ARITHMETIC,
        )[0]

    def scale(self, name: str) -> str:
        return self.constant(f"{name}.scale", self.weights[f"{name}.weight"])

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(
        self,
        operator: str,
        inputs: list[str],
        outputs: list[str] | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        named = [f"{operator}_{len(self.nodes)}"] if outputs is None else outputs
        self.nodes.append(helper.make_node(operator, inputs, named, domain=domain, **attributes))
        return named

    def model(self, context: int) -> onnx.ModelProto:
        config, numbers = self.config, range(self.config.layers)
        vocabulary = len(self.weights["embedding.weight"])
        cache = [f"{kind}_{number}" for number in numbers for kind in ("keys", "values")]

        def floats(name: str, *shape: str | int) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        def integers(name: str, *shape: str) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.INT64, shape)

        room = ("texts", config.key_value_heads, "capacity", config.head_width)
        graph = helper.make_graph(
            self.nodes,
            "llama",
            [
                integers("tokens", "texts", "time"),
                integers("read", "texts"),
                integers("places", "texts", "wanted"),
                *(floats(name, *room) for name in cache),
            ],
            [
                floats("logits", "texts", "wanted", vocabulary),
                *(floats(f"next_{name}", *room) for name in cache),
            ],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=11)
        made_of = {"config": asdict(config), "context": context}
        helper.set_model_props(model, {name: json.dumps(value) for name, value in made_of.items()})
        return model

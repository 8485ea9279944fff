"""Instruments a template's code so that its steps are counted; `zoo.tasks.chat_template` has the filters."""

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.visitor import NodeTransformer

MAX_INTEGER_BITS = 64


class Counted(NodeTransformer):
    """Adds step counting to a template's loops, macros, comparisons and joined texts."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        if node.recursive:
            raise SecurityError("it may not have recursive loops")
        size = size_of(node)
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "rounds", nodes.Const(size))
        return node

    def visit_Block(self, node: nodes.Block) -> nodes.Node:  # noqa: N802
        return self._counted_body(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._counted_body(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._counted_body(node)

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802
        return self._kept_text(node)

    def visit_FilterBlock(self, node: nodes.FilterBlock) -> nodes.Node:  # noqa: N802
        return self._kept_text(node)

    def visit_ScopedEvalContextModifier(  # noqa: N802
        self, node: nodes.ScopedEvalContextModifier
    ) -> nodes.Node:
        raise SecurityError("it may not have autoescape blocks")

    def visit_Const(self, node: nodes.Const) -> nodes.Node:  # noqa: N802
        if isinstance(node.value, int) and node.value.bit_length() > MAX_INTEGER_BITS:
            raise SecurityError(f"it may not have an integer of more than {MAX_INTEGER_BITS} bits")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [_filtered(part, "string") for part in node.nodes]
        return _filtered(node, "kept")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        operators = [operand.op for operand in node.ops]
        if operators in (["in"], ["notin"]):
            found = _filtered(node.expr, "within", node.ops[0].expr)
            return found if operators == ["in"] else nodes.Not(found)
        if "in" in operators or "notin" in operators:
            raise SecurityError("it may not compare further what it looks for with in")
        node.expr = _touched(node.expr)
        for operand in node.ops:
            operand.expr = _touched(operand.expr)
        return node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        for pair in node.items:
            pair.key = _touched(pair.key)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return _filtered(node, "kept")
        node.arg = _touched(node.arg)
        return node

    def _counted_body(self, node: nodes.Block | nodes.CallBlock | nodes.Macro) -> nodes.Node:
        size = size_of(node)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_filtered(nodes.Const(size), "taken")))
        return node

    def _kept_text(self, node: nodes.AssignBlock | nodes.FilterBlock) -> nodes.Node:
        self.generic_visit(node)
        node.filter = _filtered(node.filter, "kept")
        return node


def size_of(node: nodes.Node) -> int:
    """Returns the number of nodes in a syntax tree, without its root."""
    return sum(1 for _ in node.find_all(nodes.Node))


def _touched(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _filtered(node, "touched")


def _filtered(node: nodes.Node | None, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None)

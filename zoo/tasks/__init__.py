"""Kinds of task: the meaning of a model's numbers. The union `AnyTask` is the registry of kinds."""

from typing import Annotated, get_args

from pydantic import Field, TypeAdapter

from zoo.tasks.base import Arrays, Run, Schema, Task
from zoo.tasks.forecasting import Forecasting
from zoo.tasks.image_classification import ImageClassification
from zoo.tasks.image_explanation import EXPLAIN_IMAGE
from zoo.tasks.image_generation import ImageGeneration
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.operation import Operation
from zoo.tasks.question_answering import ANSWER
from zoo.tasks.sequence_to_sequence import SequenceToSequence
from zoo.tasks.tabular_classification import TabularClassification
from zoo.tasks.tabular_regression import TabularRegression

AnyTask = Annotated[
    TabularRegression
    | TabularClassification
    | ImageClassification
    | ImageGeneration
    | Forecasting
    | LanguageModelling
    | SequenceToSequence,
    Field(discriminator="kind"),
]
any_task: TypeAdapter[Task] = TypeAdapter(AnyTask)

TASKS: dict[str, type[Task]] = {t.model_fields["kind"].default: t for t in get_args(get_args(AnyTask)[0])}
"""Task types by kind. If several kinds share a data set's name, the earlier kind has precedence."""

OPERATIONS: tuple[Operation, ...] = (*map(Operation.main, TASKS.values()), EXPLAIN_IMAGE, ANSWER)
"""All operations, each with its own endpoint."""

__all__ = ["OPERATIONS", "TASKS", "AnyTask", "Arrays", "Operation", "Run", "Schema", "Task", "any_task"]

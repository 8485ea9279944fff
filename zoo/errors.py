"""Errors of the zoo. Each message says what was expected, what was received, and what to do next."""


class ZooError(Exception):
    """A failure the user can act on; the command line prints its message and exits with 1."""


class InvalidInput(ZooError):
    """A request that is well formed but does not fit the model's task."""


class TextTooLong(InvalidInput):
    """A text whose tokens, plus those to be written, exceed the context of a language model."""


class InputTooLarge(InvalidInput):
    """An input past a size limit, refused before it is processed."""


class NotFound(ZooError):
    """An unknown name: of a model, a version, a data set, a study."""


class BundleError(ZooError):
    """A bundle that is incomplete, altered, or does not reproduce its golden answer."""


class PastLimit(BundleError):
    """A bundle whose check took too much time or memory, perhaps because of a busy machine."""


class NotTried(ZooError):
    """A bundle, or another input, that could not be checked: it may be valid or not."""


class ExportError(ZooError):
    """An exported graph that is invalid or does not agree with the module it came from."""


class TrainingDiverged(ZooError):
    """A loss that grew without bound or stopped being a number."""


class PromotionRefused(ZooError):
    """A version that may not become champion, or a rollback without an earlier promotion."""


class ProviderUnavailable(ZooError):
    """The requested execution provider is not available; there is no silent fallback."""

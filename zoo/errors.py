"""The domain's errors. Each message says what was expected, what came, and what to do next."""


class ZooError(Exception):
    """A failure the user can act on; the command line prints its message and exits with 1."""


class InvalidInput(ZooError):
    """A request that is well formed but does not fit the model's task."""


class TextTooLong(InvalidInput):
    """A text of more tokens than a language model reads, those that it is to write among them."""


class InputTooLarge(InvalidInput):
    """An input past a size limit, refused before the work that it would cost."""


class NotFound(ZooError):
    """A name that nothing answers to: a model, a version, a data set, a study."""


class BundleError(ZooError):
    """A bundle that is incomplete, altered, or does not give its golden answer again."""


class PastLimit(BundleError):
    """A bundle whose check took too much time or memory, perhaps because of a busy machine."""


class NotTried(ZooError):
    """A bundle, or another input, that could not be checked: nothing is known of it."""


class ExportError(ZooError):
    """An exported graph that is invalid or does not agree with the module it came from."""


class TrainingDiverged(ZooError):
    """A loss that grew without bound or stopped being a number."""


class PromotionRefused(ZooError):
    """A version that may not become champion, or a rollback with nothing to go back to."""


class ProviderUnavailable(ZooError):
    """The execution provider that was asked for is not there; nothing falls back silently."""

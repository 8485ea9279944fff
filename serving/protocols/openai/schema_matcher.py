"""Compilation of a JSON Schema by the library llguidance, with low limits on the work per token."""

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

LONGEST_REASON = 300  # characters


def matcher_of(schema: str, tokens: LLTokenizer) -> LLMatcher:
    """Compiles a schema; `LLMatcher.is_error` of the result is True if the schema is invalid."""
    limits = LLParserLimits(
        step_lexer_fuel=50_000,  # 4 ms per token; the default is 200,000
        step_max_items=25_000,  # 1 ms; default 50,000
        max_lexer_states=64_000,  # 40 MB; default 250,000
        max_grammar_size=100_000,  # symbols; default 500,000
        precompute_large_lexemes=False,  # so that compile time does not depend on the tokens
        verbose_errors=False,  # verbose ones include the state of the parser
    )
    return LLMatcher(tokens, LLMatcher.grammar_from_json_schema(schema), log_level=0, limits=limits)


def reason_of(matcher: LLMatcher) -> str:
    """Returns the first line of a matcher's error."""
    return str(matcher.get_error().partition("\n")[0][:LONGEST_REASON])

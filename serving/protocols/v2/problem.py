"""Problems as the Open Inference Protocol has them."""

from serving.problem import Problem, problem_of


def v2_problem_of(error: Exception) -> Problem:
    """The problem that an exception means: 400 for whatever does not fit the model."""
    problem = problem_of(error)
    if problem.status != 422:
        return problem
    return Problem(400, problem.code, problem.message, problem.headers)

"""Errors in the format of the Open Inference Protocol."""

from serving.problem import Problem, problem_of


def v2_problem_of(error: Exception) -> Problem:
    """Returns the problem for an exception, with status 400 in place of 422."""
    problem = problem_of(error)
    if problem.status != 422:
        return problem
    return Problem(400, problem.code, problem.message, problem.headers)

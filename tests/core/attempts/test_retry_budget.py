"""Extra calls stay a share of the requests."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llm_routing.core.attempts.retry_budget import MAX_BUDGETS, WINDOW, RetryBudget, RetryBudgets

RATE = 0.2
MINIMUM = 3


class BudgetMachine(RuleBasedStateMachine):
    """Compares the budget with a simple model, for any order and pace of requests and extra
    calls."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = RetryBudget(RATE, MINIMUM)
        self.now = 1000.0
        self.requests: list[int] = []
        self.spent: list[int] = []

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 40))
    def requests_come(self, count: int) -> None:
        for _ in range(count):
            self.budget.note_request(self.now)
            self.requests.append(int(self.now))

    @rule()
    def an_extra_call_is_wanted(self) -> None:
        allowed = max(MINIMUM, int(RATE * self.recent(self.requests)))
        may = self.recent(self.spent) < allowed
        assert self.budget.try_spend(self.now) is may
        if may:
            self.spent.append(int(self.now))

    @invariant()
    def no_more_than_its_share_is_spent(self) -> None:
        # Calls allowed by requests outside the window may still be in progress.
        most = max(MINIMUM, RATE * len(self.requests))
        assert self.recent(self.spent) <= most

    def recent(self, seconds: list[int]) -> int:
        return sum(second > int(self.now) - WINDOW for second in seconds)


TestBudgetMachine = BudgetMachine.TestCase


@given(st.integers(0, 500))
def test_an_outage_adds_at_most_a_fifth_more_calls(requests: int) -> None:
    budget = RetryBudget(RATE, MINIMUM)
    retried = 0
    for _ in range(requests):
        budget.note_request(0.0)
        retried += budget.try_spend(0.0)
    assert retried <= max(MINIMUM, RATE * requests)


def test_each_name_has_its_own_budget_and_the_number_of_budgets_is_bounded() -> None:
    budgets = RetryBudgets(0, 1)
    assert budgets.try_spend("first", 0.0)
    assert not budgets.try_spend("first", 0.0)
    assert budgets.try_spend("second", 0.0)
    for number in range(MAX_BUDGETS):
        budgets.note_request(str(number), 0.0)
    assert budgets.try_spend("first", 0.0)

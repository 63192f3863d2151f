"""What would change for users, as the gate's report and the page about several runs tell it."""

import json

from pipelines.changes import KindChanges, SlateChanges, UserChanges


def test_slate_changes_when_written_as_json_then_kinds_are_rows_and_the_rest_goes_by_name() -> None:
    found = SlateChanges(
        users=3,
        overlap=0.5,
        kinds=(KindChanges(kind="fewer than 5 events", users=2, overlap=0.25),),
        enters=(("Lamp", 2),),
        leaves=(),
        examples=(UserChanges(user="7", enters=("Lamp",), leaves=("Chair",)),),
    )
    assert json.loads(json.dumps(found.to_json())) == {
        "users": 3,
        "overlap": 0.5,
        "kinds": [["fewer than 5 events", 2, 0.25]],
        "enters": [["Lamp", 2]],
        "leaves": [],
        "examples": [{"user": "7", "enters": ["Lamp"], "leaves": ["Chair"]}],
    }

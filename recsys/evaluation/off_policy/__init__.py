"""Off-policy evaluation: what a policy would have earned, estimated from a log that another policy wrote."""

from recsys.evaluation.off_policy.estimate import PolicyValue as PolicyValue

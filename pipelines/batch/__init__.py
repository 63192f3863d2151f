"""Batch recommendation: users in, partitioned Parquet folders out, in parts that are each written once."""

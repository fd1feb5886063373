"""Evaluation, transfer, statistics, video and report."""

"""Measurements that anyone can repeat: each prints its figures beside a baseline from the same run."""

"""Compare ways to pretrain a student: what the studies of projects/ share."""

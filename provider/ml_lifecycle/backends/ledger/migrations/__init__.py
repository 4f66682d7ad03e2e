"""The ledger's schema, version by version. What was released is never changed."""

"""Commands of `ml-lifecycle` about the ledger and about deployments: one file each."""

"""Who calls, and what they may: roles and permissions, bearer tokens of an identity provider, limits of rate."""

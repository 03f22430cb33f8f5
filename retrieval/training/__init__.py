"""How any model here is trained; it stands here because both packages use it, and imports `common` and itself alone."""

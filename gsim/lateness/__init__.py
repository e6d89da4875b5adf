"""How likely requests in flight are in time, and what a delay costs them: for routers and rectifiers alike."""

"""GoodServe's own figures and claims, and their reproduction: programs that use the other rooms."""

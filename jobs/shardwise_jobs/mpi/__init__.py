"""Several processes that train one thing: how they find each other, start, agree and end. It knows no engine."""

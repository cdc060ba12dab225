"""Real browsers: finding one, keeping others off its profile, and ending it in order.

Nothing here knows the manager. Playwright is imported by ``driver`` and the engines alone, inside
functions.
"""

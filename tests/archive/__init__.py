"""Export and import of profiles, and the bundle of browser data that is in both."""

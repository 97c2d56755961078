"""The HTTP API: what the desk, the campaigns and the operators do on the command line, for programs.

`app.make_app` puts it together; each part is a router of its own. It holds no model and no recording in memory, so that
it answers while all engines are busy.
"""

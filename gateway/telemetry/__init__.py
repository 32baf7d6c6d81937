"""Traces of calls, behind the Recorder base class."""

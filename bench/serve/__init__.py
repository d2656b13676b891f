"""Turns a running server's address into figures: how fast it answers under which load.

Works with any server that streams OpenAI's completions; `ingot.bench` knows the models, this
package only the network.
"""

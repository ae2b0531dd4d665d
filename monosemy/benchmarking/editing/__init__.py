"""Attribute editing: do few latents carry one attribute of a prompt, and no other?"""

"""TODO-head"""

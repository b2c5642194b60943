"""From PyTorch to a graph that is right: conversion, sizes, verification."""

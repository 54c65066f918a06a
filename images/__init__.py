"""The container images and the tool that builds and loads them, with Docker or, on a bare Debian machine, with buildah.

`python -m images build`, `load`, `sbom` and `refs`. An image's tag holds a digest of all that goes into it: an
unchanged image is never built twice, and a changed one never hides behind an old tag.
"""

"""What the rest talks about: services, endpoints, proxies, changes, contracts and errors.

Depends on no other package of the project, on no transport and on no registry's library.
"""

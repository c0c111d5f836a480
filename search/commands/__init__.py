"""The commands of `ghostnas`: each checks what it was given, then calls the pipeline or a package below it."""

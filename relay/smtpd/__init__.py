"""The front door: turns SMTP dialogues into (Session, Envelope, content) and hands them to intake.

`dialogue` is the protocol without I/O, `protocol` puts it on aiosmtpd's class and a socket, `handler` decides
who may do what, `listener` opens the ports.
"""

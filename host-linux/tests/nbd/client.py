"""Every command and flag of the protocol, by libnbd: as its client may send them, and as it may not."""
import errno
import sys
import nbd

uri = sys.argv[1]
MIB = 1 << 20


def connected(strict=True, structured=True, context=True):
    h = nbd.NBD()
    h.set_request_structured_replies(structured)
    h.set_full_info(True)
    if context:
        h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.connect_uri(uri)
    if not strict:
        h.set_strict_mode(0)
    return h


def fails(number, what):
    try:
        what()
    except nbd.Error as error:
        assert error.errnum == number, (error.string, error.errnum, number)
        return
    raise AssertionError("it did not fail")


for structured in (True, False):
    h = connected(structured=structured)
    assert h.get_structured_replies_negotiated() == structured
    assert h.get_canonical_export_name() == "disk"
    data = bytes(range(256)) * 512
    h.pwrite(data, 4 * MIB + 3, nbd.CMD_FLAG_FUA)
    assert h.pread(len(data), 4 * MIB + 3) == data
    h.zero(65536, 4 * MIB, nbd.CMD_FLAG_FUA)
    assert h.pread(65536, 4 * MIB) == bytes(65536)
    h.zero(65536, 4 * MIB, nbd.CMD_FLAG_NO_HOLE)
    h.trim(MIB, 4 * MIB, nbd.CMD_FLAG_FUA)
    h.cache(MIB, 0)
    h.flush()
    assert h.pread(32 * MIB, 0)[4 * MIB :] == bytes(28 * MIB)
    h.shutdown()

# A hole, data, a hole: in chunks, in one chunk, and as extents.
h = connected()
h.trim(16 * MIB, 0)
h.pwrite(b"x" * MIB, MIB)
chunks = []
h.pread_structured(3 * MIB, 0, lambda data, offset, status, error: chunks.append((offset, status)))
kinds = {status for _, status in chunks}
assert kinds == {nbd.READ_DATA, nbd.READ_HOLE}, chunks
chunks.clear()
whole = h.pread_structured(
    3 * MIB, 0, lambda data, offset, status, error: chunks.append((offset, status)), nbd.CMD_FLAG_DF
)
assert chunks == [(0, nbd.READ_DATA)], chunks
assert whole == bytes(MIB) + b"x" * MIB + bytes(MIB)
extents = []
h.block_status(3 * MIB, 0, lambda context, offset, entries, error: extents.extend(entries))
assert extents == [MIB, 3, MIB, 0, MIB, 3], extents
extents.clear()
h.block_status(
    3 * MIB, 0, lambda context, offset, entries, error: extents.extend(entries), nbd.CMD_FLAG_REQ_ONE
)
assert extents == [MIB, 3], extents

# What a client may not send is an error, and the connection goes on.
h = connected(strict=False)
size = h.get_size()
fails(errno.EINVAL, lambda: h.pread(512, size))
fails(errno.EINVAL, lambda: h.pread(512, size - 511))
fails(errno.EINVAL, lambda: h.pread(512, (1 << 64) - 256))
fails(errno.ENOSPC, lambda: h.pwrite(bytes(512), size - 1))
fails(errno.ENOSPC, lambda: h.zero(512, size))
fails(errno.EINVAL, lambda: h.trim(512, size))
fails(errno.EINVAL, lambda: h.cache(512, size))
fails(errno.EINVAL, lambda: h.block_status(512, size, lambda *a: None))
fails(errno.EINVAL, lambda: h.pread(512, 0, nbd.CMD_FLAG_NO_HOLE))
fails(errno.EINVAL, lambda: h.pwrite(bytes(512), 0, nbd.CMD_FLAG_DF))
fails(errno.EINVAL, lambda: h.trim(512, 0, 1 << 15))
fails(errno.EINVAL, lambda: h.pread(33 * MIB, 0))
assert len(h.pread(512, 0)) == 512
h.zero(32 * MIB, 32 * MIB, nbd.CMD_FLAG_FAST_ZERO)

# Without what must be negotiated first.
h = connected(strict=False, structured=False)
fails(errno.EINVAL, lambda: h.pread(512, 0, nbd.CMD_FLAG_DF))
h = connected(strict=False, context=False)
assert not h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)

# Options, one by one.
h = nbd.NBD()
h.set_opt_mode(True)
h.connect_uri(uri)
names = []
h.opt_list(lambda name, description: names.append((name, description)))
assert names == [("disk", "a disk of the plant")], names
contexts = []
h.opt_list_meta_context(lambda name: contexts.append(name))
assert contexts == ["base:allocation", "x-bulkhead:dirty"], contexts
h.add_meta_context("base:")
contexts.clear()
h.opt_list_meta_context(lambda name: contexts.append(name))
assert contexts == ["base:allocation"], contexts
h.set_export_name("nothing")
fails(errno.ENOENT, h.opt_info)
fails(errno.ENOENT, h.opt_go)
h.set_export_name("disk")
h.opt_info()
assert h.get_size() == size
h.opt_go()
assert len(h.pread(1, size - 1)) == 1

# Encryption: refused, and a client that insists does not go on.
h = nbd.NBD()
if h.supports_tls():
    h.set_tls(nbd.TLS_ALLOW)
    h.connect_uri(uri)
    assert not h.get_tls_negotiated()
    h = nbd.NBD()
    h.set_tls(nbd.TLS_REQUIRE)
    try:
        h.connect_uri(uri)
        raise AssertionError("it went on in the clear")
    except nbd.Error:
        pass
print("fine")

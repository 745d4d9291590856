# SPDX-License-Identifier: Apache-2.0
"""Ways to add up the ranks' row-parallel products, behind one interface, so that one module runs with each of them.

A way has a buffer into which the product goes, from whatever allocator its library wants, and a sum that is good until its next
sum. No way copies anything that its library does not make it copy. NVLink multicast is used by none.
"""

import ctypes

import torch
import torch.distributed as dist

BF16_BYTES = 2


class Way:
    """The sum stays where the product was, unless a way says otherwise."""

    name = ""

    def __init__(self, setting):
        self.hidden = setting.hidden
        self.source = self.allocate(setting)
        self.result = self.source

    def allocate(self, setting):
        return torch.zeros(setting.rows_max * setting.hidden, dtype=torch.bfloat16, device=setting.device)

    def partial(self, rows):
        return self.source[:rows * self.hidden].view(rows, self.hidden)

    def reduce(self, rows):
        self.sum(rows * self.hidden)
        return self.result[:rows * self.hidden].view(rows, self.hidden)

    def sum(self, count):
        raise NotImplementedError

    def commit(self):
        """After captures. [collective]"""

    def close(self):
        pass


class Setting:
    """What ways are made from: who and where this rank is, how large sums get, and the means that several of them share."""

    def __init__(self, rank, world, device, hidden, rows_max, comm, tutti):
        self.rank, self.world, self.device, self.hidden, self.rows_max = rank, world, device, hidden, rows_max
        self.comm, self.tutti, self.nccl = comm, tutti, None

    def close(self):
        if self.nccl is not None:
            self.nccl.close()


class Nothing(Way):
    """The step without communication: its time is what the others' is compared with. Its results are wrong."""

    name = "none"

    def sum(self, count):
        pass


class Exact(Way):
    """What a sum has to be: in fp32, in rank order, rounded once. For checks; nobody would do it so."""

    name = "exact"

    def __init__(self, setting):
        super().__init__(setting)
        self.everyone = torch.zeros(setting.world * len(self.source), dtype=torch.bfloat16, device=setting.device)
        self.world, self.result = setting.world, torch.zeros_like(self.source)

    def sum(self, count):
        everyone = self.everyone[:self.world * count]
        dist.all_gather_into_tensor(everyone, self.source[:count])
        first, *others = everyone.view(self.world, count)
        total = first.float()
        for other in others:
            total += other.float()
        self.result[:count] = total


class Tutti(Way):
    """PyTorch's own memory on both sides; not in place, which is what a caller who keeps nothing has no reason to want."""

    name = "tutti"

    def __init__(self, setting):
        super().__init__(setting)
        self.comm, self.type, self.on_device = setting.comm, setting.tutti.BF16, setting.device.type == "cuda"
        self.result = torch.zeros_like(self.source)

    def sum(self, count):
        stream = torch.cuda.current_stream().cuda_stream if self.on_device else 0
        self.comm.all_reduce(self.source.data_ptr(), self.result.data_ptr(), count, self.type, stream=stream)

    def commit(self):
        self.comm.commit()


class Distributed(Way):
    """torch.distributed.all_reduce, in place: NCCL on GPUs, gloo on CPUs."""

    name = "torch.distributed"

    def sum(self, count):
        dist.all_reduce(self.source[:count])


class _UniqueId(ctypes.Structure):
    _fields_ = [("internal", ctypes.c_byte * 128)]


class _NcclCommunicator:
    """NCCL, the library that PyTorch has loaded, called directly on the current stream, as engines do."""

    SUM, BF16, SYMMETRIC = 0, 9, 1

    def __init__(self, setting):
        self.library = ctypes.CDLL("libnccl.so.2")
        self.library.ncclGetErrorString.restype = ctypes.c_char_p
        identity = _UniqueId()
        if setting.rank == 0:
            self.call("ncclGetUniqueId", ctypes.byref(identity))
        told = [bytes(identity)]
        dist.broadcast_object_list(told, src=0)
        self.handle = ctypes.c_void_p()
        self.call("ncclCommInitRank", ctypes.byref(self.handle), ctypes.c_int(setting.world),
                  _UniqueId.from_buffer_copy(told[0]), ctypes.c_int(setting.rank))

    def call(self, name, *arguments):
        status = getattr(self.library, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}: {self.library.ncclGetErrorString(status).decode()}")

    def all_reduce(self, pointer, count):
        address = ctypes.c_void_p(pointer)
        self.call("ncclAllReduce", address, address, ctypes.c_size_t(count), ctypes.c_int(self.BF16), ctypes.c_int(self.SUM),
                  self.handle, ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))

    def close(self):
        self.call("ncclCommDestroy", self.handle)


class Nccl(Way):
    """ncclAllReduce, in place, on the stream of the products."""

    name = "nccl"

    def __init__(self, setting):
        if setting.nccl is None:
            setting.nccl = _NcclCommunicator(setting)
        self.nccl = setting.nccl
        super().__init__(setting)

    def sum(self, count):
        self.nccl.all_reduce(self.source.data_ptr(), count)


class _DeviceMemory:
    """An address as what torch.as_tensor takes."""

    def __init__(self, address, size_bytes):
        self.__cuda_array_interface__ = {"data": (address, False), "shape": (size_bytes,), "typestr": "|u1", "version": 3}


class NcclSymmetric(Nccl):
    """The same in a symmetric window (ncclMemAlloc, ncclCommWindowRegister)."""

    name = "nccl-symmetric"

    def allocate(self, setting):
        size_bytes = setting.rows_max * setting.hidden * BF16_BYTES
        self.memory, self.window = ctypes.c_void_p(), ctypes.c_void_p()
        self.nccl.call("ncclMemAlloc", ctypes.byref(self.memory), ctypes.c_size_t(size_bytes))
        self.nccl.call("ncclCommWindowRegister", self.nccl.handle, self.memory, ctypes.c_size_t(size_bytes),
                       ctypes.byref(self.window), ctypes.c_int(self.nccl.SYMMETRIC))
        if not self.window.value:
            raise RuntimeError("NCCL has no symmetric windows here")
        return torch.as_tensor(_DeviceMemory(self.memory.value, size_bytes), device=setting.device).view(torch.bfloat16)

    def close(self):
        self.source = self.result = None
        self.nccl.call("ncclCommWindowDeregister", self.nccl.handle, self.window)
        self.nccl.call("ncclMemFree", self.memory)


class TorchTwoShot(Way):
    """PyTorch's symmetric memory, two-shot, in place."""

    name = "torch-two-shot"

    def allocate(self, setting):
        import torch.distributed._symmetric_memory as symmetric
        shared = symmetric.empty(setting.rows_max * setting.hidden, dtype=torch.bfloat16, device=setting.device)
        symmetric.rendezvous(shared, dist.group.WORLD)
        self.group = dist.group.WORLD.group_name
        return shared

    def sum(self, count):
        torch.ops.symm_mem.two_shot_all_reduce_(self.source[:count], "sum", self.group)


class TorchOneShot(TorchTwoShot):
    """PyTorch's symmetric memory, one-shot, into ordinary memory."""

    name = "torch-one-shot"

    def __init__(self, setting):
        super().__init__(setting)
        self.result = torch.zeros(setting.rows_max * setting.hidden, dtype=torch.bfloat16, device=setting.device)

    def sum(self, count):
        torch.ops.symm_mem.one_shot_all_reduce_out(self.source[:count], "sum", self.group, self.result[:count])


GPU_WAYS = [Nothing, Distributed, Nccl, NcclSymmetric, TorchOneShot, TorchTwoShot, Tutti]
CPU_WAYS = [Nothing, Distributed, Tutti]

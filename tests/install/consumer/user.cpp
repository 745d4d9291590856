// SPDX-License-Identifier: Apache-2.0
// user.cpp - a C++11 program that uses an installed tutti: one rank, every header.
#include <cstdio>
#include <cstring>
#include <vector>

#include <tutti/host.h>
#include <tutti/tutti.h>

int main()
{
    tutti_comm_options options;
    std::memset(&options, 0, sizeof(options));
    options.struct_bytes = sizeof(options);
    options.backend = "host";
    options.world = 1;
    tutti_comm *comm = nullptr;
    if (tutti_comm_create(&options, &comm) != TUTTI_OK) {
        std::printf("%s\n", tutti_last_error());
        return 1;
    }
    std::vector<float> src(1000, 2.5f);
    std::vector<float> dst(1000, 0.0f);
    tutti_status status = tutti_all_reduce(comm, src.data(), dst.data(), dst.size(), TUTTI_F32, TUTTI_SUM, nullptr);
    tutti_host_stream *stream = nullptr;
    if (status == TUTTI_OK) {
        status = tutti_host_stream_create(&stream);
    }
    tutti_host_stream_destroy(stream);
    tutti_comm_destroy(comm);
    std::printf("C++: tutti %s: %s\n", tutti_version(), tutti_status_name(status));
    return status == TUTTI_OK && dst == src ? 0 : 1;
}

# SPDX-License-Identifier: Apache-2.0
# Tests of memory, on simulated devices.
set(memory_environment "TUTTI_CUDA_LIBRARY=$<TARGET_FILE:simgpu_cuda>;TUTTI_HIP_LIBRARY=$<TARGET_FILE:simgpu_hip>"
    TUTTI_GPU_IMAGES=${CMAKE_CURRENT_BINARY_DIR}/kernels.image TUTTI_TEST_EFFORT=quick)
function(memory_case vendor name)
    add_case(sim/memory/${vendor}/${name} ${ARGN})
    set_tests_properties(sim/memory/${vendor}/${name} PROPERTIES
        ENVIRONMENT "${memory_environment};TUTTI_TEST_GPU=${vendor};${memory_more}")
endfunction()
add_dependencies(gpu_memory simgpu_cuda simgpu_hip)
foreach(vendor cuda hip)
    foreach(how threads-2 processes-2 all-2)
        set(memory_more "")
        memory_case(${vendor} ${how} gpu_memory ${how})
    endforeach()
    # One device: every rank shares it.
    set(memory_more SIMGPU_DEVICES=1)
    memory_case(${vendor} one-device gpu_memory threads-2)
endforeach()
set(memory_more TUTTI_GPU_ARENA=ipc)
memory_case(cuda ipc gpu_memory processes-2)

# Driver calls that fail on one rank.
add_executable(simgpu_memory_faults memory_faults.c)
target_link_libraries(simgpu_memory_faults PRIVATE harness tutti m)
add_dependencies(simgpu_memory_faults simgpu_cuda simgpu_hip)
set(memory_more "")
foreach(vendor cuda hip)
    memory_case(${vendor} faults simgpu_memory_faults)
endforeach()

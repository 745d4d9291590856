# SPDX-License-Identifier: Apache-2.0
# Collectives of a vendor's on simulated devices, in place of libnccl.so.2 and librccl.so.1, and the tests of what uses them.
# The vendor's header would declare the functions.
set_source_files_properties(nccl.c PROPERTIES COMPILE_OPTIONS -Wno-missing-prototypes)
foreach(pair nccl:cuda rccl:hip)
    string(REPLACE ":" ";" names ${pair})
    list(GET names 0 library)
    list(GET names 1 vendor)
    add_library(simgpu_${library} SHARED nccl.c ../harness/values.c)
    target_link_libraries(simgpu_${library} PRIVATE simgpu_options simgpu_${vendor} Threads::Threads m)
endforeach()
set(vendor_environment "TUTTI_CUDA_LIBRARY=$<TARGET_FILE:simgpu_cuda>;TUTTI_HIP_LIBRARY=$<TARGET_FILE:simgpu_hip>"
    "TUTTI_NCCL_LIBRARY=$<TARGET_FILE:simgpu_nccl>;TUTTI_RCCL_LIBRARY=$<TARGET_FILE:simgpu_rccl>"
    TUTTI_GPU_IMAGES=${CMAKE_CURRENT_BINARY_DIR}/kernels.image TUTTI_TEST_EFFORT=quick)

add_executable(simgpu_vendor_fallback vendor_fallback.c)
target_link_libraries(simgpu_vendor_fallback PRIVATE harness tutti m)
add_dependencies(simgpu_vendor_fallback simgpu_nccl simgpu_rccl)
add_case(sim/vendor/fallback simgpu_vendor_fallback)
set_tests_properties(sim/vendor/fallback PROPERTIES ENVIRONMENT "${vendor_environment}")
add_executable(simgpu_known_bad_driver known_bad_driver.c)
target_link_libraries(simgpu_known_bad_driver PRIVATE harness tutti m)
add_dependencies(simgpu_known_bad_driver simgpu_hip simgpu_rccl)
add_case(sim/hip/regress/known_bad_driver simgpu_known_bad_driver)
set_tests_properties(sim/hip/regress/known_bad_driver PROPERTIES ENVIRONMENT "${vendor_environment}")
foreach(vendor cuda hip)
    foreach(how processes-2 processes-3 threads-4)
        set(name sim/vendor/collectives/${vendor}-${how})
        add_case(${name} gpu_collectives ${how})
        set_tests_properties(${name} PROPERTIES
            ENVIRONMENT "${vendor_environment};TUTTI_GPU_VENDOR=always;TUTTI_TEST_GPU=${vendor}")
    endforeach()
endforeach()

foreach(vendor cuda hip)
    set(name sim/vendor/runner/${vendor}-processes-2)
    add_case(${name} gpu_runner processes-2)
    set_tests_properties(${name} PROPERTIES
        ENVIRONMENT "${vendor_environment};TUTTI_GPU_VENDOR=always;TUTTI_TEST_GPU=${vendor}")
endforeach()

if(TARGET tutti_tool)
    add_executable(simgpu_bench bench.c)
    target_link_libraries(simgpu_bench PRIVATE harness tutti PkgConfig::cjson)
    target_compile_definitions(simgpu_bench PRIVATE TUTTI_TOOL="$<TARGET_FILE:tutti_tool>")
    add_dependencies(simgpu_bench tutti_tool simgpu_nccl)
    add_case(sim/vendor/bench simgpu_bench)
    set_tests_properties(sim/vendor/bench PROPERTIES ENVIRONMENT "${vendor_environment}")
endif()

# SPDX-License-Identifier: Apache-2.0
# Compiles src/kernels/*.cu for every vendor whose compiler is here, and builds the images into the library. Neither a
# vendor's headers nor its libraries are needed, and without a compiler the library builds all the same: the backend then says
# which images it lacks.
set(kernels_default ON)
if(TUTTI_SANITIZE)
    set(kernels_default OFF) # minutes of compiling that no sanitizer looks at
endif()
option(TUTTI_CUDA_KERNELS "Build kernels for NVIDIA devices, if nvcc is found" ${kernels_default})
option(TUTTI_CUDA_ALL_TARGETS "Code for every NVIDIA architecture; OFF: for sm_90, and PTX for the others" ON)
option(TUTTI_HIP_KERNELS "Build kernels for AMD devices, if clang-19 is found" ${kernels_default})

file(GLOB kernel_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/*.cu)
file(GLOB kernel_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/*.h)
set(images_folder ${PROJECT_BINARY_DIR}/kernels)
file(MAKE_DIRECTORY ${images_folder})
set(images_text "")  # rows of gpu_images
set(images_names "") # declarations and contents
set(images_files "")

# kernel_image(vendor part target file): one more row.
function(kernel_image vendor part target file)
    string(REGEX REPLACE "[^a-z0-9]" "_" name "image_${vendor}_${part}_${target}")
    set(images_names "${images_names}CONTENTS(${name}, \"${file}\")\n" PARENT_SCOPE)
    set(images_text "${images_text}    {\"${vendor}\", \"${part}\", \"${target}\", ${name}, ${name}_end},\n" PARENT_SCOPE)
    set(images_files ${images_files} ${file} PARENT_SCOPE)
endfunction()

# -- NVIDIA: one fatbin a file, with code for each architecture and PTX for those to come ----------------
if(TUTTI_CUDA_KERNELS)
    find_program(TUTTI_NVCC nvcc HINTS /usr/local/cuda/bin ENV CUDA_HOME PATH_SUFFIXES bin)
endif()
set(cuda_targets "")
if(TUTTI_CUDA_KERNELS AND TUTTI_NVCC)
    execute_process(COMMAND ${TUTTI_NVCC} --list-gpu-code OUTPUT_VARIABLE cuda_codes ERROR_QUIET)
    set(cuda_options "")
    set(cuda_codes_wanted 90)
    if(TUTTI_CUDA_ALL_TARGETS)
        set(cuda_codes_wanted 80 90 100)
    endif()
    foreach(code ${cuda_codes_wanted})
        if(cuda_codes MATCHES "sm_${code}[\r\n]")
            list(APPEND cuda_targets sm_${code})
            list(APPEND cuda_options -gencode arch=compute_${code},code=sm_${code})
        endif()
    endforeach()
    if(cuda_codes MATCHES "sm_80[\r\n]")
        list(APPEND cuda_targets compute_80)
        list(APPEND cuda_options -gencode arch=compute_80,code=compute_80)
    endif()
    string(REPLACE ";" " " cuda_target_text "${cuda_targets}")
endif()

# cuda_fatbin(image source OPTIONS options... DEPENDS files...): code for all of cuda_targets. The command has kernels too.
function(cuda_fatbin image source)
    cmake_parse_arguments(fatbin "" "" "OPTIONS;DEPENDS" ${ARGN})
    get_filename_component(part ${source} NAME_WE)
    add_custom_command(OUTPUT ${image}
        COMMAND ${TUTTI_NVCC} -fatbin -std=c++17 -O3 -t 2 ${cuda_options} -Xfatbin=-compress-all ${fatbin_OPTIONS}
            -o ${image} ${source}
        DEPENDS ${source} ${fatbin_DEPENDS} VERBATIM
        COMMENT "NVIDIA kernels: ${part} (${cuda_target_text})")
endfunction()

if(cuda_targets)
    foreach(source ${kernel_sources})
        get_filename_component(part ${source} NAME_WE)
        set(image ${images_folder}/${part}.fatbin)
        # 128: a loop that one instantiation of a template does not reach.
        cuda_fatbin(${image} ${source} DEPENDS ${kernel_headers}
            OPTIONS -Xcudafe --diag_suppress=128 -I${PROJECT_SOURCE_DIR}/src)
        kernel_image(cuda ${part} "${cuda_target_text}" ${image})
    endforeach()
endif()

# -- AMD: one code object a file and architecture ---------------------------------------------------------
if(TUTTI_HIP_KERNELS)
    find_program(TUTTI_CLANG_HIP NAMES clang++-19 clang-19)
endif()
set(hip_targets "")
if(TUTTI_HIP_KERNELS AND TUTTI_CLANG_HIP)
    set(hip_options -x hip --cuda-device-only --no-gpu-bundle-output -nogpuinc -nogpulib -std=c++17 -O3
        -ffp-contract=off)
    file(WRITE ${images_folder}/trial.hip "extern \"C\" __attribute__((global)) void trial() {}\n")
    execute_process(COMMAND ${TUTTI_CLANG_HIP} ${hip_options} --offload-arch=gfx90a -o ${images_folder}/trial.co
            ${images_folder}/trial.hip
        RESULT_VARIABLE hip_trial OUTPUT_QUIET ERROR_QUIET)
    if(hip_trial EQUAL 0)
        set(hip_targets gfx90a gfx942)
    endif()
    foreach(source ${kernel_sources})
        get_filename_component(part ${source} NAME_WE)
        foreach(target ${hip_targets})
            set(image ${images_folder}/${part}.${target}.co)
            # -c: what makes it one of those commands whose results ccache keeps. The result is linked all the same.
            add_custom_command(OUTPUT ${image}
                COMMAND ${CMAKE_C_COMPILER_LAUNCHER} ${TUTTI_CLANG_HIP} ${hip_options} --offload-arch=${target}
                    -I${PROJECT_SOURCE_DIR}/src -c -o ${image} ${source}
                DEPENDS ${source} ${kernel_headers} VERBATIM
                COMMENT "AMD kernels: ${part} (${target})")
            kernel_image(hip ${part} ${target} ${image})
        endforeach()
    endforeach()
endif()

foreach(vendor cuda hip)
    if(${vendor}_targets)
        message(STATUS "Kernels for ${vendor}: ${${vendor}_targets}")
    else()
        message(STATUS "Kernels for ${vendor}: none (no compiler, or switched off)")
    endif()
endforeach()

# -- the list ---------------------------------------------------------------------------------------------
configure_file(${PROJECT_SOURCE_DIR}/cmake/gpu_images.c.in ${images_folder}/gpu_images.c @ONLY)
set_source_files_properties(${images_folder}/gpu_images.c PROPERTIES OBJECT_DEPENDS "${images_files}")
target_sources(tutti_objects PRIVATE ${images_folder}/gpu_images.c)

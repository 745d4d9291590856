/* SPDX-License-Identifier: Apache-2.0 */
/*
 * padding.cu - zeroes the rows of matrices that are not real ones, in front of work that a graph does for a whole bucket of rows.
 *
 * How many rows are real stands in a word that the stream writes before the graph is launched, so that one graph serves every count
 * up to its bucket. Often there is nothing to zero: then a launch is one load a thread, and that is what its time has to be. No order
 * is asked of the stores but the one that the end of a grid gives.
 */
#include "kernels/portable.h"

/* From row `first` on. `Unit`: what address, row and stride are multiples of. */
template <class Unit> PORT_DEVICE void rows_zero(const struct padding_matrix &matrix, uint64_t first, uint64_t rows)
{
    /* Rows without gaps are one long row: no division finds where one ends. */
    const bool dense = matrix.row_bytes == matrix.stride_bytes;
    const uint64_t units = (dense ? rows * matrix.row_bytes : matrix.row_bytes) / sizeof(Unit);
    const uint64_t lines = dense ? 1 : rows;
    const uint64_t from = matrix.address + first * matrix.stride_bytes;
    const uint64_t begin = (uint64_t)port_block() * port_threads() + port_thread();
    const uint64_t step = (uint64_t)port_blocks() * port_threads();
    uint64_t line = dense ? 0 : begin / units;
    uint64_t unit = dense ? begin : begin % units;
    const uint64_t line_step = dense ? 0 : step / units;
    const uint64_t unit_step = dense ? step : step % units;
    while (line < lines && unit < units) {
        *reinterpret_cast<Unit *>(from + line * matrix.stride_bytes + unit * sizeof(Unit)) = Unit();
        line += line_step;
        unit += unit_step;
        if (!dense && unit >= units) {
            unit -= units;
            line++;
        }
    }
}

PORT_KERNEL_OF(struct padding_arguments, tutti_padding)
{
    const uint64_t first = *reinterpret_cast<const uint32_t *>(arguments.word);
    if (first >= arguments.rows) {
        return;
    }
    for (uint32_t index = 0; index < arguments.count; index++) {
        const struct padding_matrix &matrix = arguments.matrices[index];
        const uint64_t multiple = matrix.address | matrix.row_bytes | matrix.stride_bytes;
        if ((multiple & 15) == 0) {
            rows_zero<struct vec4>(matrix, first, arguments.rows - first);
        } else if ((multiple & 3) == 0) {
            rows_zero<uint32_t>(matrix, first, arguments.rows - first);
        } else {
            rows_zero<uint8_t>(matrix, first, arguments.rows - first);
        }
    }
}

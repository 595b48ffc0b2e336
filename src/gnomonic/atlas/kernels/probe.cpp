// Tells the loader that the library is the one it was written for.
#include "kernels.h"

EXPORT std::int32_t kernels_version() { return 1; }

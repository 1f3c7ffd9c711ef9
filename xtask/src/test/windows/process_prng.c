/* The one function of bcryptprimitives.dll that Rust programs start with. Wine before version 9 has no such library. */
#include <windows.h>
#define SystemFunction036 SystemFunction036
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG); /* RtlGenRandom */
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T len) { return SystemFunction036(bytes, (ULONG)len); }

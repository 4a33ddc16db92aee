/*! \file driver.h
 *  OpenCL's functions, found in the driver when the first of them is needed.
 *
 *  Nothing is linked: the plug-in is built with headers alone, and loads where there is no driver.
 */
#pragma once

#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>

#define DEEPREBIRTH_OPENCL_FUNCTIONS(EACH) \
  EACH(clBuildProgram)                     \
  EACH(clCreateBuffer)                     \
  EACH(clCreateCommandQueue)               \
  EACH(clCreateContext)                    \
  EACH(clCreateKernel)                     \
  EACH(clCreateProgramWithBinary)          \
  EACH(clCreateProgramWithSource)          \
  EACH(clEnqueueBarrierWithWaitList)       \
  EACH(clEnqueueCopyBuffer)                \
  EACH(clEnqueueMarkerWithWaitList)        \
  EACH(clEnqueueNDRangeKernel)             \
  EACH(clEnqueueReadBuffer)                \
  EACH(clEnqueueWriteBuffer)               \
  EACH(clFinish)                           \
  EACH(clFlush)                            \
  EACH(clGetDeviceIDs)                     \
  EACH(clGetDeviceInfo)                    \
  EACH(clGetEventProfilingInfo)            \
  EACH(clGetKernelWorkGroupInfo)           \
  EACH(clGetPlatformIDs)                   \
  EACH(clGetPlatformInfo)                  \
  EACH(clGetProgramBuildInfo)              \
  EACH(clGetProgramInfo)                   \
  EACH(clReleaseCommandQueue)              \
  EACH(clReleaseContext)                   \
  EACH(clReleaseEvent)                     \
  EACH(clReleaseKernel)                    \
  EACH(clReleaseMemObject)                 \
  EACH(clReleaseProgram)                   \
  EACH(clSetKernelArg)                     \
  EACH(clWaitForEvents)

namespace deeprebirth::opencl {

struct Driver {
#define DEEPREBIRTH_DECLARE(NAME) decltype(&::NAME) NAME = nullptr;
  DEEPREBIRTH_OPENCL_FUNCTIONS(DEEPREBIRTH_DECLARE)
#undef DEEPREBIRTH_DECLARE
};

/*! \brief Return the driver's functions, loading it if need be.
 *
 *  Throws if there is no driver, and in a process forked from one that used it: the threads that a driver starts
 *  are not in the copy, which would wait for them without end.
 */
const Driver& Cl();

/*! \brief Tell whether this process was forked from one that used the driver. */
bool IsForked();

}  // namespace deeprebirth::opencl

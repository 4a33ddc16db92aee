// Runs the kernel `main_kernel(buffer, texture)` of an OpenCL C file once, 4 x 4 work items.
// Standard input: the buffer, 64 floats. Standard output: the texture, 4 x 4 pixels of 4 floats.

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

namespace {

constexpr size_t kSize = 4, kFloats = kSize * kSize * 4;

void Check(cl_int code, const char* what) {
  if (code == CL_SUCCESS) return;
  std::fprintf(stderr, "%s: %d\n", what, code);
  std::exit(code == CL_DEVICE_NOT_FOUND || code == CL_IMAGE_FORMAT_NOT_SUPPORTED ? 3 : 1);
}

}  // namespace

int main(int, char** arguments) {
  std::ifstream file(arguments[1]);
  std::string source(std::istreambuf_iterator<char>(file), {});
  float values[kFloats];
  if (std::fread(values, sizeof(float), kFloats, stdin) != kFloats) return 1;

  cl_platform_id platform;
  if (clGetPlatformIDs(1, &platform, nullptr) != CL_SUCCESS) Check(CL_DEVICE_NOT_FOUND, "platform");
  cl_device_id device;
  Check(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, nullptr), "device");
  cl_int code;
  cl_context context = clCreateContext(nullptr, 1, &device, nullptr, nullptr, &code);
  Check(code, "context");
  cl_command_queue queue = clCreateCommandQueue(context, device, 0, &code);
  Check(code, "queue");

  const char* text = source.c_str();
  cl_program program = clCreateProgramWithSource(context, 1, &text, nullptr, &code);
  Check(code, "program");
  Check(clBuildProgram(program, 1, &device, "", nullptr, nullptr), "build");
  cl_kernel kernel = clCreateKernel(program, "main_kernel", &code);
  Check(code, "kernel");

  cl_mem buffer = clCreateBuffer(context, CL_MEM_COPY_HOST_PTR, sizeof values, values, &code);
  Check(code, "buffer");
  cl_image_format format{CL_RGBA, CL_FLOAT};
  cl_image_desc shape{};
  shape.image_type = CL_MEM_OBJECT_IMAGE2D_ARRAY;
  shape.image_width = shape.image_height = kSize;
  shape.image_array_size = 1;
  cl_mem texture = clCreateImage(context, CL_MEM_READ_WRITE, &format, &shape, nullptr, &code);
  Check(code, "texture");

  Check(clSetKernelArg(kernel, 0, sizeof buffer, &buffer), "argument");
  Check(clSetKernelArg(kernel, 1, sizeof texture, &texture), "argument");
  size_t all = kSize * kSize, group = kSize, origin[3] = {0, 0, 0}, region[3] = {kSize, kSize, 1};
  Check(clEnqueueNDRangeKernel(queue, kernel, 1, nullptr, &all, &group, 0, nullptr, nullptr), "launch");
  Check(clEnqueueReadImage(queue, texture, CL_TRUE, origin, region, 0, 0, values, 0, nullptr, nullptr), "read");
  return std::fwrite(values, sizeof(float), kFloats, stdout) == kFloats ? 0 : 1;
}

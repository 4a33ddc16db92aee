/*! \file plugin.h
 *  The OpenCL plug-in, on boards whose GPU runs the network.
 */
#pragma once

namespace deeprebirth {

/*! \brief Load the plug-in if it lies beside TVM's libraries; OpenCL itself starts in the sessions that use it. */
void LoadPlugin();

}  // namespace deeprebirth

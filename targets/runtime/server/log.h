/*! \file log.h
 *  One line for each thing that happens, with its time, on standard error.
 */
#pragma once

#include <string>

namespace deeprebirth {

/*! \brief Write a line; what cannot be printed in it becomes a question mark. */
void Say(const std::string& line);

}  // namespace deeprebirth

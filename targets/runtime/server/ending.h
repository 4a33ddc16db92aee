/*! \file ending.h
 *  How the process of a session ended, as `tuning/devices/ending.py` reads it.
 */
#pragma once

#include <string>

namespace deeprebirth {

/*! \brief The session's number, what waitpid says of its process, and whether its time was over. */
struct Ending {
  int session = 0;
  int status = 0;
  bool late = false;

  std::string ToJson() const;
  std::string InWords() const;
};

}  // namespace deeprebirth

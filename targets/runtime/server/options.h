/*! \file options.h
 *  What the command line asks for.
 */
#pragma once

#include <stdexcept>
#include <string>

#include "sockets.h"

namespace deeprebirth {

struct Options {
  Place tracker;
  std::string key;
  std::string host = "127.0.0.1";
  int port = 0;    /*!< 0 for a free one */
  int threads = 0; /*!< 0 for all cores */
  bool help = false;
};

/*! \brief What a user spelt wrongly, in one line. */
class Misspelt : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/*! \brief Read the words after the program's name. */
Options ReadOptions(int count, char** words);

/*! \brief What `--help` prints. */
extern const char* const kUsage;

}  // namespace deeprebirth

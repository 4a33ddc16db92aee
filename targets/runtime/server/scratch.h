/*! \file scratch.h
 *  Folders of sessions, which are gone when their session is, and at the latest when the next server starts.
 */
#pragma once

#include <string>

namespace deeprebirth {

/*! \brief A server's folder, locked as long as the server lives, so that those of killed servers are known. */
class ServerFolder {
 public:
  /*! \brief Make it in TMPDIR, and remove those that killed servers left; std::runtime_error if it cannot be made. */
  ServerFolder();
  ~ServerFolder();
  ServerFolder(const ServerFolder&) = delete;
  ServerFolder& operator=(const ServerFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int lock_;
};

/*! \brief Make a folder inside another; std::runtime_error says why it cannot be made. */
std::string MakeFolder(const std::string& base, const std::string& prefix);

/*! \brief Remove a folder and what is in it, as far as that can be done. */
void RemoveFolder(const std::string& path);

}  // namespace deeprebirth

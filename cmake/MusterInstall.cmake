# `cmake --install`: the program `muster`, the client library with its public headers, and what makes
# find_package(muster CONFIG) and the target muster::muster work. Included last, when all targets are known.
include(CMakePackageConfigHelpers)

# Which package brings an imported target, by the target's name. The installed musterConfig.cmake asks for
# those that the library really needs.
set(muster_packages
  "^absl::=absl REQUIRED CONFIG"
  "^gRPC::=gRPC REQUIRED CONFIG"
  "^protobuf::=Protobuf REQUIRED MODULE"
  "^spdlog::=spdlog REQUIRED CONFIG"
  "^yaml-cpp=yaml-cpp REQUIRED CONFIG"
  "^nlohmann_json::=nlohmann_json REQUIRED CONFIG"
  "^CLI11::=CLI11 REQUIRED CONFIG"
  "^msgpackc-cxx=msgpackc-cxx REQUIRED CONFIG"
  "^OpenSSL::=OpenSSL REQUIRED"
  "^CURL::=CURL REQUIRED"
  "^SQLite::=SQLite3 REQUIRED"
  "^LibArchive::=LibArchive REQUIRED"
  "^BLAS::=BLAS REQUIRED"
  "^Threads::=Threads REQUIRED"
  "^fmt::=fmt REQUIRED CONFIG")

# Our own targets that `target` links, itself among them, and the packages they need, into the two variables.
function(muster_closure target targets_out packages_out)
  set(pending ${target})
  set(targets)
  set(packages)
  while(pending)
    list(POP_FRONT pending name)
    string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" name "${name}")
    # Imported targets are known only in the directory that found them, so these go by name.
    set(package)
    foreach(entry IN LISTS muster_packages)
      string(REGEX MATCH "^([^=]+)=(.*)$" ignored "${entry}")
      set(arguments "${CMAKE_MATCH_2}")
      if(name MATCHES "${CMAKE_MATCH_1}")
        set(package "${arguments}")
      endif()
    endforeach()
    if(package)
      list(APPEND packages "${package}")
      continue()
    endif()
    if(NOT TARGET "${name}")
      if(name MATCHES "^[A-Za-z0-9_.-]+::" AND NOT name MATCHES "^muster::")  # Of ours, CMake itself will complain.
        message(FATAL_ERROR "cmake/MusterInstall.cmake does not know which package brings ${name}: add it to muster_packages")
      endif()
      continue()  # A plain library such as dl, or one of the build's own: $<BUILD_INTERFACE:...>.
    endif()
    get_target_property(aliased ${name} ALIASED_TARGET)
    if(aliased)
      set(name ${aliased})
    endif()
    if(NOT name IN_LIST targets)
      list(APPEND targets ${name})
      get_target_property(links ${name} INTERFACE_LINK_LIBRARIES)
      if(links)
        list(APPEND pending ${links})
      endif()
    endif()
  endwhile()
  list(REMOVE_DUPLICATES packages)
  set(${targets_out} ${targets} PARENT_SCOPE)
  set(${packages_out} "${packages}" PARENT_SCOPE)
endfunction()

if(TARGET muster)
  install(TARGETS muster RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

if(TARGET muster_client)
  muster_closure(muster_client muster_installed muster_needed)
  foreach(target IN LISTS muster_installed)
    string(REGEX REPLACE "^muster_" "" export_name ${target})
    set_target_properties(${target} PROPERTIES EXPORT_NAME ${export_name})
  endforeach()
  set_target_properties(muster_client PROPERTIES EXPORT_NAME muster)  # muster::muster.
  target_compile_features(muster_client INTERFACE cxx_std_20)
  target_include_directories(muster_client INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  # An executor proves that it is the driver's binary by this note.
  target_link_options(muster_client INTERFACE -Wl,--build-id=sha1)

  set(MUSTER_FIND_DEPENDENCIES)
  foreach(package IN LISTS muster_needed)
    string(REPLACE " REQUIRED" "" package "${package}")
    string(APPEND MUSTER_FIND_DEPENDENCIES "find_dependency(${package})\n")
  endforeach()
  set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/muster)
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/musterConfig.cmake.in
    ${PROJECT_BINARY_DIR}/musterConfig.cmake INSTALL_DESTINATION ${package_dir})
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/musterConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
  install(TARGETS ${muster_installed} EXPORT muster ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}/muster)
  install(EXPORT muster NAMESPACE muster:: FILE musterTargets.cmake DESTINATION ${package_dir})
  install(FILES ${PROJECT_BINARY_DIR}/musterConfig.cmake ${PROJECT_BINARY_DIR}/musterConfigVersion.cmake
    DESTINATION ${package_dir})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/muster DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    FILES_MATCHING PATTERN "*.h")
endif()

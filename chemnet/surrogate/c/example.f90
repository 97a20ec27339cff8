! A network for the chemistry of a Fortran program.
program example
  use, intrinsic :: iso_c_binding, only: c_associated, c_double, c_int, c_ptr, c_size_t
  use, intrinsic :: iso_fortran_env, only: error_unit
  use chemnet
  implicit none

  type(c_ptr) :: model
  character(:), allocatable :: message
  character(32), allocatable :: species(:)
  real(c_double), allocatable :: T(:), p(:), Y(:, :), before(:)
  integer(c_int), allocatable :: status(:)
  integer(c_size_t) :: left
  integer :: i, k

  call chemnet_load("model.bin", model, message)
  if (.not. c_associated(model)) call give_up(message)

  ! The solver's own species and time step, as it would know them; a model for others is refused.
  allocate (species(chemnet_n_species(model)))
  do k = 1, size(species)
    species(k) = chemnet_species_name(model, k)
  end do
  if (.not. chemnet_check(model, chemnet_dt(model), species, message)) call give_up(message)

  call read_cells("check.txt", size(species))
  before = T
  left = chemnet_step(model, int(size(T), c_size_t), T, p, Y, status)
  print '(2a, i0, a, i0, a, g0.6, a, es8.1, a)', chemnet_mechanism(model), ": ", size(T), " cells, ", left, &
    " left to an integrator; T changes by up to ", maxval(abs(T - before), mask=status == chemnet_ok), " K in ", &
    chemnet_dt(model), " s"
  do i = 1, size(status)
    if (status(i) /= chemnet_ok) print '(a, i0, 2a)', "cell ", i, ": ", chemnet_status_text(status(i))
  end do
  call chemnet_free(model)

contains

  ! The states before the step of check.txt; see check.c.
  subroutine read_cells(path, n_species)
    character(*), intent(in) :: path
    integer, intent(in) :: n_species
    integer :: unit, n, n_there, n_read, row, expected
    open (newunit=unit, file=path, status="old", action="read", iostat=n_read)
    if (n_read /= 0) call give_up("check.txt cannot be read")
    read (unit, *) n, n_there
    if (n_there /= n_species) call give_up("check.txt belongs to another model")
    allocate (T(n), p(n), Y(n_species, n), status(n))
    do row = 1, n
      read (unit, *) expected, T(row), p(row), Y(:, row)
    end do
    close (unit)
  end subroutine read_cells

  subroutine give_up(reason)
    character(*), intent(in) :: reason
    write (error_unit, '(a)') reason
    stop 1
  end subroutine give_up

end program example
